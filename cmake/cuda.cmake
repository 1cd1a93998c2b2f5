# Look for the CUDA Toolkit and NCCL. Neither is needed: without them the CPU device and the MPI road still work.
set(CDPIPE_CUDA_VERSION "")
set(CDPIPE_NCCL_VERSION "")
include(cmake/least.cmake)
set(least_cuda 12.3) # a graph can hold kernels that begin before the one ahead of them is done (kernels/cuda/early.h)
set(least_nccl 2.19) # a communicator that comes up can be aborted by another thread (comm/nccl/edge.c)

if(NOT CDPIPE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND)
    set(CDPIPE_CUDA_VERSION ${CUDAToolkit_VERSION})
  elseif(CDPIPE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CDPIPE_CUDA=ON, but no CUDA Toolkit was found: put nvcc on PATH or set CUDAToolkit_ROOT")
  endif()
  cdpipe_least(CUDA CDPIPE_CUDA_VERSION ${least_cuda} ${CDPIPE_CUDA})
endif()

if(NOT CDPIPE_NCCL STREQUAL "OFF" AND CDPIPE_CUDA_VERSION)
  include(cmake/nccl.cmake)
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h lines REGEX "#define NCCL_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" CDPIPE_NCCL_VERSION "${lines}")
    string(REPLACE ";" "." CDPIPE_NCCL_VERSION "${CDPIPE_NCCL_VERSION}")
    cdpipe_least(NCCL CDPIPE_NCCL_VERSION ${least_nccl} ${CDPIPE_NCCL})
  endif()
endif()
if(CDPIPE_NCCL STREQUAL "ON" AND NOT CDPIPE_NCCL_VERSION)
  message(FATAL_ERROR "CDPIPE_NCCL=ON, but nccl.h and libnccl were not found: set NCCL_HOME")
endif()

# C code asks these two: 1 where the header is there, else 0.
add_compile_definitions("$<$<COMPILE_LANGUAGE:C,CXX>:CDP_WITH_CUDA=$<BOOL:${CDPIPE_CUDA_VERSION}>>"
  "$<$<COMPILE_LANGUAGE:C,CXX>:CDP_WITH_NCCL=$<BOOL:${CDPIPE_NCCL_VERSION}>>")

# nvcc: machine code for the two families that people have, and PTX for those to come. The sanitizer build, which never
# meets a GPU, makes the PTX only: ptxas is two fifths of the time.
if(CDPIPE_CUDA_VERSION)
  include_directories(SYSTEM ${CUDAToolkit_INCLUDE_DIRS})
  set(architectures 80-real 90-real 90-virtual)
  if(CDPIPE_SANITIZE)
    set(architectures 90-virtual)
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${architectures} CACHE STRING "what nvcc compiles for")
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -lineinfo")
  enable_language(CUDA)
endif()

# The two libraries of kernels, of which a program links one: cdp_cuda (nvcc, for GPUs; cuBLASLt and NCCL are opened when
# first called) and, where a program has the property CDP_STANDIN, cdp_standin (tests/standin). Host code is the same.
function(cdpipe_cuda_library)
  if(NOT CDPIPE_CUDA_VERSION)
    return()
  endif()
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  file(GLOB late CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/late/*.c)
  if(CDPIPE_NCCL_VERSION)
    file(GLOB late_nccl CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/comm/late/*.c)
  endif()
  add_library(cdp_cuda STATIC ${kernels} ${late} ${late_nccl})
  target_compile_options(cdp_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--threads=2;-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror>")
  target_link_libraries(cdp_cuda PUBLIC cdp_kernels CUDA::cudart_static ${CMAKE_DL_LIBS})
  target_link_libraries(cdp_kernels INTERFACE "$<IF:$<BOOL:$<TARGET_PROPERTY:CDP_STANDIN>>,cdp_standin,cdp_cuda>")
endfunction()

# Where the opened libraries are looked for: beside the system's, the toolkit this was built with. The build tree has the
# installed program's path: CMake would else fill its own up with a colon, which means the current folder.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON) # an MPI outside the system's folders
if(CDPIPE_CUDA_VERSION)
  list(APPEND CMAKE_INSTALL_RPATH ${CUDAToolkit_LIBRARY_DIR})
endif()
if(CDPIPE_NCCL_VERSION) # which NCCL_HOME may have named
  get_filename_component(nccl_library_folder ${NCCL_LIBRARY} DIRECTORY)
  list(APPEND CMAKE_INSTALL_RPATH ${nccl_library_folder})
  list(REMOVE_DUPLICATES CMAKE_INSTALL_RPATH)
endif()

function(cdpipe_say name version advice)
  if(version)
    message(STATUS "${name}: found ${version}")
  else()
    message(STATUS "${name}: not found - the CPU device and the MPI road still work; to add ${name}: ${advice}")
  endif()
endfunction()

function(cdpipe_summary)
  message(STATUS "cdpipe ${PROJECT_VERSION} (${CMAKE_BUILD_TYPE}, sanitizers ${CDPIPE_SANITIZE})")
  message(STATUS "MPI: found ${MPI_C_VERSION} (${MPI_C_LIBRARIES})")
  cdpipe_say("CUDA" "${CDPIPE_CUDA_VERSION}" "install the CUDA Toolkit ${least_cuda} or newer, nvcc on PATH")
  cdpipe_say("NCCL" "${CDPIPE_NCCL_VERSION}" "install libnccl-dev ${least_nccl} or newer, or set NCCL_HOME")
endfunction()
