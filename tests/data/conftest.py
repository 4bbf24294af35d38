from tests.postgresql import postgresql
from tests.ray_session import local_ray
from tests.small_disk import small_disk

__all__ = ["local_ray", "postgresql", "small_disk"]
