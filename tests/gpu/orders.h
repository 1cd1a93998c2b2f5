/* tests/gpu/orders.h - the orders in which a test runs its kernels: some on the stand-in, one on a real GPU.
 */
#pragma once

#ifdef CDP_STANDIN
#include "tests/standin/standin.h"

/* Ascending, descending, and shuffled by three seeds. */
static inline int test_n_orders(void) {
    return 5;
}
static inline void test_set_order(int order) {
    standin_set_order(order == 0   ? STANDIN_ASCENDING
                      : order == 1 ? STANDIN_DESCENDING
                                   : STANDIN_SHUFFLED,
                      (uint64_t)order);
}
#else
static inline int test_n_orders(void) {
    return 1;
}
static inline void test_set_order(int order) {
    (void)order;
}
#endif
