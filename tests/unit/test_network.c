/* The network on which several hosts meet: the same one on every rank, whatever its interfaces are called.
 *
 * What it catches: a bridge that every host has for itself, a network that one host lacks, an interface taken
 * by its place in a list, two choices in one run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/network.h"

#define AT(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))
static const uint32_t mask24 = 0xFFFFFF00;

static void add(cdp_interfaces *of, const char *name, uint32_t address, uint32_t mask, int rank) {
    cdp_interface *i = &of->at[of->n++];
    *i = (cdp_interface){.address = address, .mask = mask, .rank = rank};
    strcpy(i->name, name);
}

/* Two ranks on host 0, one on host 2. */
static void open_hosts(cdp_interfaces all[3]) {
    memset(all, 0, 3 * sizeof *all);
    for (int rank = 0; rank < 3; rank++) {
        const unsigned number = rank < 2 ? 2 : 3;
        all[rank].host = rank < 2 ? 0 : 2;
        add(&all[rank], "docker0", AT(172, 17, 0, 1), mask24, 0);
        if (rank < 2)
            add(&all[rank], "eth9", AT(10, 9, 0, 2), mask24, 0);
        add(&all[rank], rank < 2 ? "eno1" : "ens3", AT(10, 0, 0, number), mask24, 0);
    }
}

static const char *chosen(const cdp_interfaces all[3], int rank) {
    const int at = cdp_interface_choose(all, 3, rank);
    return at < 0 ? "none" : all[rank].at[at].name;
}

static void expect(const cdp_interfaces all[3], const char *first, const char *second) {
    assert_string_equal(chosen(all, 0), first);
    assert_string_equal(chosen(all, 1), first);
    assert_string_equal(chosen(all, 2), second);
}

static void test_network_of_all(void **state) {
    (void)state;
    cdp_interfaces all[3];
    open_hosts(all);
    expect(all, "eno1", "ens3");
    for (int rank = 0; rank < 3; rank++) /* a second one, InfiniBand by its name */
        add(&all[rank], "ib0", AT(192, 168, 7, all[rank].host), mask24, 1);
    expect(all, "ib0", "ib0");
    for (int rank = 0; rank < 3; rank++) /* what MPI was told goes first; rank 0's word counts */
        all[rank].at[all[rank].n - 2].rank = rank == 0 ? 2 : 0;
    expect(all, "eno1", "ens3");
}

static void test_no_network_of_all(void **state) {
    (void)state;
    cdp_interfaces all[3];
    open_hosts(all);
    all[2].at[1].address = AT(10, 0, 1, 3);
    expect(all, "none", "none");
    open_hosts(all);
    all[2].at[1].mask = 0xFFFF0000; /* not the same network, though the address would be in it */
    expect(all, "none", "none");
    open_hosts(all);
    all[2].n = 0;
    expect(all, "none", "none");
}

static void test_what_mpi_was_told(void **state) {
    (void)state;
    const cdp_interface i = {.name = "eth1", .address = AT(10, 1, 2, 3), .mask = mask24};
    static const char *const yes[] = {"eth1", "eth0,eth1", "10.1.2.0/24", "lo,10.0.0.0/8", "10.1.2.3/32"};
    static const char *const no[] = {"",   "eth", "eth10", "10.1.3.0/24", "10.1.2.0", "10.1.2.0/0",
                                     "/8", "x/8", ","};
    for (size_t k = 0; k < sizeof yes / sizeof *yes; k++)
        assert_true(cdp_interface_is_told(&i, yes[k]));
    for (size_t k = 0; k < sizeof no / sizeof *no; k++)
        assert_false(cdp_interface_is_told(&i, no[k]));
    assert_false(cdp_interface_is_told(&i, NULL));
}

/* This machine's own: no loopback, no more than there is room for. */
static void test_read(void **state) {
    (void)state;
    cdp_interfaces mine;
    assert_int_equal(cdp_interfaces_read(&mine, NULL), CDP_OK);
    assert_in_range(mine.n, 0, CDP_MAX_INTERFACES);
    for (int i = 0; i < mine.n; i++)
        assert_true(mine.at[i].name[0] != '\0' && mine.at[i].address >> 24 != 127);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_of_all),
        cmocka_unit_test(test_no_network_of_all),
        cmocka_unit_test(test_what_mpi_was_told),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
