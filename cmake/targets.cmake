# Targets for people: `format` rewrites the sources by .clang-format, `check` runs every test but those that need a GPU.
add_custom_target(format COMMAND ${CMAKE_SOURCE_DIR}/tests/lint/format --fix WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_custom_target(check COMMAND ${CMAKE_CTEST_COMMAND} --output-on-failure -LE gpu DEPENDS cdpipe)
