# Where NCCL is: what NCCL_HOME names first. Python's package of it (nvidia/nccl) has libnccl.so.2 and no libnccl.so.
find_path(NCCL_INCLUDE_DIR nccl.h HINTS $ENV{NCCL_HOME}/include ${CUDAToolkit_INCLUDE_DIRS})
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR HINTS $ENV{NCCL_HOME}/lib ${CUDAToolkit_LIBRARY_DIR})
