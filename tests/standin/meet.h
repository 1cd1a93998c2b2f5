/* tests/standin/meet.h - where the processes of nccl.cpp find each other. */
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/standin/inside.h"

/* Whether this host has the interface of NCCL_SOCKET_IFNAME, as NCCL reads it: "=NAME" or the beginning of a
 * name. Unset: true. */
bool standin_has_interface(void);

/* The Unix socket of that name: in STANDIN_NCCL_FOLDER, else in no folder (a leading NUL). */
sockaddr_un standin_address_of(const char *name, socklen_t *n_out);
