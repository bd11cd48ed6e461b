"""The search: the only folder that imports ray, optuna and wandb."""
