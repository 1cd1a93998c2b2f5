/* tests/standin/meet.cpp - where the processes of nccl.cpp find each other. */
#include <ifaddrs.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/standin/meet.h"

bool standin_has_interface(void) {
    const char *const wanted = getenv("NCCL_SOCKET_IFNAME");
    ifaddrs *list = nullptr;
    bool is_found = wanted == nullptr;
    if (getifaddrs(&list) != 0)
        return false;
    for (const ifaddrs *i = list; i != nullptr && !is_found; i = i->ifa_next)
        is_found = i->ifa_addr != nullptr && i->ifa_addr->sa_family == AF_INET &&
                   (wanted[0] == '=' ? strcmp(i->ifa_name, wanted + 1) == 0
                                     : strncmp(i->ifa_name, wanted, strlen(wanted)) == 0);
    freeifaddrs(list);
    return is_found;
}

sockaddr_un standin_address_of(const char *name, socklen_t *n_out) {
    const char *const folder = getenv("STANDIN_NCCL_FOLDER");
    sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    if (folder != nullptr) {
        snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", folder, name);
        *n_out = (socklen_t)sizeof a;
        return a;
    }
    memcpy(a.sun_path + 1, name, strlen(name)); /* a leading NUL: in no folder */
    *n_out = (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + strlen(name));
    return a;
}
