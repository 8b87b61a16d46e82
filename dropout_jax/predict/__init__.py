"""Predict with dropout models: weight scaling, Monte Carlo dropout, geometric mean, moments."""

from dropout_jax.predict.moments import Moments as Moments
from dropout_jax.predict.moments import moment_predict as moment_predict
from dropout_jax.predict.sampling import Prediction as Prediction
from dropout_jax.predict.sampling import geometric_mean_predict as geometric_mean_predict
from dropout_jax.predict.sampling import mc_predict as mc_predict
from dropout_jax.predict.sampling import mc_samples as mc_samples
from dropout_jax.predict.sampling import predict_scaled as predict_scaled
