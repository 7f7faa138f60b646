"""cloudpickle, under the name that Ray gives it: this module is that one."""

import sys

import cloudpickle

sys.modules[__name__] = cloudpickle
