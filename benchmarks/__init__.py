"""Programs behind the figures in the documents."""

import crrg as crrg  # before torch, as every command of the library has it
