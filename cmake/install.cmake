# cmake --install puts the program, its man page (printed from the option table) and the licence in place.
include(GNUInstallDirs)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/cdpipe.1
  COMMAND $<TARGET_FILE:cdpipe> --man > ${CMAKE_BINARY_DIR}/cdpipe.1 DEPENDS cdpipe VERBATIM)
add_custom_target(man ALL DEPENDS ${CMAKE_BINARY_DIR}/cdpipe.1)
install(TARGETS cdpipe DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${CMAKE_BINARY_DIR}/cdpipe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
