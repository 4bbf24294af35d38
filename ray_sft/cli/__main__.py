"""``python -m ray_sft.cli``."""

from ray_sft.cli import main

if __name__ == "__main__":
    main()
