from .idx import DataError as DataError
from .sets import Dataset as Dataset
from .sets import load as load
from .sets import load_digits as load_digits
from .sets import load_fashion_mnist as load_fashion_mnist
from .sets import load_mnist as load_mnist
from .sets import split_validation as split_validation
from .uci import load_uci as load_uci
