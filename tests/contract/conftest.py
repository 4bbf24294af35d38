from tests.ray_session import local_ray

__all__ = ["local_ray"]
