# What --version says about this build. The commit is asked at configure time.
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} describe --always --dirty --abbrev=12
  OUTPUT_VARIABLE CDPIPE_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT CDPIPE_COMMIT)
  set(CDPIPE_COMMIT "unknown")
endif()
get_target_property(type cdp_launcher TYPE)
if(type STREQUAL "INTERFACE_LIBRARY")
  return()
endif()
target_compile_definitions(cdp_launcher PRIVATE
  CDPIPE_VERSION="${PROJECT_VERSION}" CDPIPE_COMMIT="${CDPIPE_COMMIT}"
  CDPIPE_CUDA_VERSION="${CDPIPE_CUDA_VERSION}" CDPIPE_NCCL_VERSION="${CDPIPE_NCCL_VERSION}")
