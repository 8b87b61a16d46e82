from .dropout import Dropout as Dropout
from .replace import Replaced as Replaced
from .replace import replace_dropout as replace_dropout
