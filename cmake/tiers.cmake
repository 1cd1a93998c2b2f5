# Each CPU tier's file has its own instructions, chosen at run time. They are long: the compiler would take a third of its
# time for where each variable lies (-g), so they have lines and functions only (-g1); the machine code is the same.
set(CDPIPE_TIER -g1)
set(processor_flags "")
set_source_files_properties(kernels/cpu/plain.c PROPERTIES COMPILE_OPTIONS "${CDPIPE_TIER}")

# What this processor cannot run, no sanitizer can see: compiled without, in a sixth of the time.
function(cdpipe_tier variable flag)
  set(options ${CDPIPE_TIER} ${ARGN})
  if(CDPIPE_SANITIZE AND processor_flags AND NOT " ${processor_flags} " MATCHES " ${flag} ")
    list(APPEND options -fno-sanitize=all)
  endif()
  set(${variable} "${options}" PARENT_SCOPE)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  if(EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo processor_flags REGEX "^flags" LIMIT_COUNT 1)
  endif()
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq ${avx2} -mprefer-vector-width=512)
  cdpipe_tier(CDPIPE_AVX2 avx2 ${avx2})
  cdpipe_tier(CDPIPE_AVX512 avx512f ${avx512})
  cdpipe_tier(CDPIPE_AMX amx_bf16 ${avx512} -mamx-tile -mamx-bf16)
  foreach(tier AVX2 AVX512 AMX)
    string(TOLOWER ${tier} name)
    set_source_files_properties(kernels/cpu/${name}.c PROPERTIES COMPILE_OPTIONS "${CDPIPE_${tier}}")
  endforeach()
endif()
