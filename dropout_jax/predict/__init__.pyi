from .moments import Moments as Moments
from .moments import moment_predict as moment_predict
from .sampling import Prediction as Prediction
from .sampling import geometric_mean_predict as geometric_mean_predict
from .sampling import mc_predict as mc_predict
from .sampling import mc_samples as mc_samples
from .sampling import predict_scaled as predict_scaled
