"""Known flavors: how their estimators are called with arrays, and which of them are row-wise.

Each flavor has a file with `predictor`: its estimator's own call on an array, where that is known
to answer as MLflow's call on the frame of the same values does.
"""
