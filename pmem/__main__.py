"""`python -m pmem` is `pmem`."""

from pmem.cli import main

main(prog_name="pmem")
