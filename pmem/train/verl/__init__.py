"""Training on a cluster: pmem's data, memory loop and rewards under verl's trainers (verl 0.9.1, its source untouched).

`rows` writes what verl reads, `settings` says what pmem sets of verl's configuration, `compose` puts it together and
finds what is wrong before anything starts, `estimate` says what it will take, `launch` runs it. `agents`, `rollouts`,
`reward` and `lessons` are what verl loads in its own processes. `cpu` and `cpu_rollout` let all of it run without a
GPU, where asked for.

Nothing here is imported unless a run asks for it; verl, ray and torch least of all.
"""
