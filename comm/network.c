#include "comm/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

/* "10.0.0.0/24" holds this address. */
static bool is_in_network(const char *text, uint32_t address) {
    char base[INET_ADDRSTRLEN];
    struct in_addr network;
    const char *slash = strchr(text, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - text);
    if (n == 0 || n >= sizeof base)
        return false;
    memcpy(base, text, n);
    base[n] = '\0';
    const long bits = strtol(slash + 1, NULL, 10);
    if (bits < 1 || bits > 32 || inet_pton(AF_INET, base, &network) != 1)
        return false;
    return (ntohl(network.s_addr) ^ address) >> (32 - bits) == 0;
}

bool cdp_interface_is_told(const cdp_interface *interface, const char *told) {
    char word[64];
    for (const char *at = told; at != NULL && *at != '\0';) {
        const size_t n = strcspn(at, ",");
        if (n > 0 && n < sizeof word) {
            memcpy(word, at, n);
            word[n] = '\0';
            if (strcmp(word, interface->name) == 0 || is_in_network(word, interface->address))
                return true;
        }
        at += n + (at[n] == ',' ? 1 : 0);
    }
    return false;
}

static uint32_t number_of(const struct sockaddr *address) {
    struct sockaddr_in in;
    memcpy(&in, address, sizeof in);
    return ntohl(in.sin_addr.s_addr);
}

static bool is_of_use(const struct ifaddrs *i) {
    return i->ifa_addr != NULL && i->ifa_netmask != NULL && i->ifa_addr->sa_family == AF_INET &&
           (i->ifa_flags & IFF_UP) != 0 && (i->ifa_flags & IFF_LOOPBACK) == 0 &&
           strlen(i->ifa_name) < CDP_INTERFACE_NAME;
}

cdp_status cdp_interfaces_read(cdp_interfaces *out, const char *told) {
    struct ifaddrs *list = NULL;
    out->n = 0;
    if (getifaddrs(&list) != 0)
        return cdp_fail(CDP_SYSTEM, "the network interfaces of this host: %s", strerror(errno));
    for (const struct ifaddrs *i = list; i != NULL && out->n < CDP_MAX_INTERFACES; i = i->ifa_next) {
        if (!is_of_use(i))
            continue;
        cdp_interface *mine = &out->at[out->n++];
        *mine = (cdp_interface){.address = number_of(i->ifa_addr), .mask = number_of(i->ifa_netmask)};
        memcpy(mine->name, i->ifa_name, strlen(i->ifa_name) + 1);
        mine->rank = cdp_interface_is_told(mine, told) ? 2 : strncmp(mine->name, "ib", 2) == 0 ? 1 : 0;
    }
    freeifaddrs(list);
    return CDP_OK;
}

/* The interface of these on the network of `like`; -1: none. */
static int on_network(const cdp_interfaces *of, const cdp_interface *like) {
    for (int i = 0; i < of->n; i++)
        if (of->at[i].mask == like->mask && ((of->at[i].address ^ like->address) & like->mask) == 0)
            return i;
    return -1;
}

/* Every rank has an address there, and those of other hosts have others. */
static bool is_of_all(const cdp_interface *network, const cdp_interfaces *all, int n_ranks) {
    for (int r = 0; r < n_ranks; r++) {
        const int mine = on_network(&all[r], network);
        if (mine < 0)
            return false;
        for (int other = 0; other < r; other++) {
            const int its = on_network(&all[other], network);
            if (all[other].host != all[r].host && all[other].at[its].address == all[r].at[mine].address)
                return false;
        }
    }
    return true;
}

int cdp_interface_choose(const cdp_interfaces *all, int n_ranks, int rank) {
    for (int wanted = 2; wanted >= 0; wanted--)
        for (int i = 0; i < all[0].n; i++)
            if (all[0].at[i].rank == wanted && is_of_all(&all[0].at[i], all, n_ranks))
                return on_network(&all[rank], &all[0].at[i]);
    return -1;
}
