/* comm/network.h - the network on which the hosts of a run meet.
 *
 *     host a   docker0 172.17.0.1/16   eno1 10.0.0.2/24   ib0 192.168.7.2/24   eth9 10.9.0.2/24
 *     host b   docker0 172.17.0.1/16   ens3 10.0.0.3/24   ib0 192.168.7.3/24
 *              one address twice       a network          a network: taken     of one host alone
 *
 * Who looks at one host only, as NCCL does, takes an interface by its name, and may wait on a bridge for
 * peers that are not behind it. IPv4; hosts that meet by routers alone have no such network.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/status.h"

enum { CDP_MAX_INTERFACES = 16, CDP_INTERFACE_NAME = 16 };

typedef struct cdp_interface {
    char name[CDP_INTERFACE_NAME];
    uint32_t address, mask; /* in the order of the host: 10.0.0.2 is 0x0A000002 */
    int32_t rank;           /* higher goes first: 2 MPI was told to use it, 1 InfiniBand by its name */
} cdp_interface;

/* Of one process. */
typedef struct cdp_interfaces {
    int32_t host; /* equal for all ranks of one host */
    int32_t n;
    cdp_interface at[CDP_MAX_INTERFACES];
} cdp_interfaces;

/* This host's interfaces that are up, without loopback, in the system's order. `told` is the list of names
 * and networks (10.0.0.0/24) that MPI was given (OMPI_MCA_btl_tcp_if_include); NULL: none. */
cdp_status cdp_interfaces_read(cdp_interfaces *out, const char *told);

/* Whether the list `told` names this interface. */
bool cdp_interface_is_told(const cdp_interface *interface, const char *told);

/* Which of rank's own interfaces is on the network that all hosts have, all[n_ranks] in the order of the
 * ranks; -1: there is none. The same network on every rank: rank 0's first of the highest rank. */
int cdp_interface_choose(const cdp_interfaces *all, int n_ranks, int rank);
