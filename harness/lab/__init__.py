"""A lab's life: plan applied, undone in reverse; ledger, injector, fidelity."""
