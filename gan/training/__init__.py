"""The training loop, its step, losses, checkpoints, and the folder of a run.

Public: training_loop.train, with request.TrainingRequest, TrainingOptions and resolve; start.load_source; run_dir.Run;
recorder.Hook and metrics_budget.BudgetedMetrics, a hook; learner.Learner, the step alone.
"""
