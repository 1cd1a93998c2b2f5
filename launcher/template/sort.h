/* launcher/template/sort.h - an order that keeps equals where they were, also backwards, as Python's does. */
#pragma once

#include "launcher/template/value.h"

/* The numbers 0..n-1 in the order of their keys. Fails on keys that have no order. */
size_t *tpl_sort(tpl_machine *m, const tpl_value *keys, size_t n, bool is_reversed);
