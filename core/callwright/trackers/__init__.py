"""Experiment trackers: TensorBoard, Weights & Biases, trackio, MLflow, and whatever else accelerate knows."""
