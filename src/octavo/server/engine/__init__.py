"""Many texts written at once: who may read when, what each remembers, and one step for all of them."""
