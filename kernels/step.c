#include "kernels/step.h"

#include <stddef.h>

int cdp_taps_count(const cdp_tap_set *set, int first, int end) {
    int n = 0;
    for (int state = first; state < end; state++)
        n += cdp_taps_has(set, state);
    return n;
}

const cdp_step_slot *cdp_step_slot_of(const cdp_step *step, int32_t slot) {
    for (int i = 0; i < step->n_slots; i++)
        if (step->slots[i].slot == slot)
            return &step->slots[i];
    return NULL;
}

const cdp_tap_set *cdp_step_taps_of(const cdp_step *step, int i) {
    if (step->n_tap_words == 0 || !step->rows[i].wants_home)
        return NULL;
    const cdp_step_slot *slot = cdp_step_slot_of(step, step->rows[i].slot);
    for (int w = 0; slot != NULL && w < step->n_tap_words; w++)
        if (slot->taps.words[w] != 0)
            return &slot->taps;
    return NULL;
}

int cdp_step_count_taps(const cdp_step *step, int first, int end) {
    int n = 0;
    for (int i = 0; step->n_tap_words > 0 && i < step->n_rows; i++) {
        const cdp_tap_set *taps = cdp_step_taps_of(step, i);
        n += taps != NULL ? cdp_taps_count(taps, first, end) : 0;
    }
    return n;
}
