#include <string.h>

#include "launcher/template/sort.h"

/* Merge [begin, middle) and [middle, end): of equal keys the left one comes first. */
static void merge(tpl_machine *m, const tpl_value *keys, size_t *order, size_t *room, size_t begin,
                  size_t middle, size_t end, bool is_reversed) {
    size_t a = begin, b = middle;
    for (size_t i = begin; i < end; i++) {
        bool takes_left = b == end;
        if (a < middle && b < end) {
            const int sign = tpl_compare(m, keys[order[a]], keys[order[b]], "<");
            takes_left = is_reversed ? sign >= 0 : sign <= 0;
        }
        room[i] = takes_left ? order[a++] : order[b++];
    }
    memcpy(order + begin, room + begin, (end - begin) * sizeof *order);
}

size_t *tpl_sort(tpl_machine *m, const tpl_value *keys, size_t n, bool is_reversed) {
    size_t *order = tpl_take(m, (n + 1) * sizeof *order), *room = tpl_take(m, (n + 1) * sizeof *room);
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t width = 1; width < n; width *= 2)
        for (size_t begin = 0; begin + width < n; begin += 2 * width) {
            const size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            merge(m, keys, order, room, begin, begin + width, end, is_reversed);
        }
    return order;
}
