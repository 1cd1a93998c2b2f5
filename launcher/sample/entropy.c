/* The loops are written in LANES independent sums, so that the compiler may use vectors without being allowed
 * to reorder anything; blocks of f32 sums are added up in double. */
#include "launcher/sample/entropy.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { LANES = 16, BLOCK = 1024 };

/* e^x for x in [-87, 0], to 2 units of the last place: 2^n times a polynomial in the rest. */
static inline float exp_below(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    const float n = (x * 1.44269504f + magic) - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* The largest logit; *is_whole_out false when there is a NaN. */
static float largest(const float *z, int n, bool *is_whole_out) {
    float lanes[LANES], best = -INFINITY;
    int32_t n_nan[LANES] = {0}, sum = 0;
    int i = 0;
    for (int k = 0; k < LANES; k++)
        lanes[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            lanes[k] = z[i + k] > lanes[k] ? z[i + k] : lanes[k];
            n_nan[k] += z[i + k] != z[i + k];
        }
    for (; i < n; i++) {
        best = z[i] > best ? z[i] : best;
        sum += z[i] != z[i];
    }
    for (int k = 0; k < LANES; k++) {
        best = lanes[k] > best ? lanes[k] : best;
        sum += n_nan[k];
    }
    *is_whole_out = sum == 0;
    return best;
}

/* Z and S of up to BLOCK logits. A difference below the range of e^x counts as its end, 10^-38 of the
 * largest: that also keeps 0 * -inf away from masked logits and from differences that overflow. */
static void add_block(const float *z, int n, float m, double *big_z, double *big_s) {
    float sum_z[LANES] = {0}, sum_s[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float far = z[i + k] - m, d = far > -87.0f ? far : -87.0f, e = exp_below(d);
            sum_z[k] += e;
            sum_s[k] += d * e;
        }
    for (int k = 0; i < n; i++, k++) {
        const float far = z[i] - m, d = far > -87.0f ? far : -87.0f, e = exp_below(d);
        sum_z[k] += e;
        sum_s[k] += d * e;
    }
    for (int k = 0; k < LANES; k++) {
        *big_z += (double)sum_z[k];
        *big_s += (double)sum_s[k];
    }
}

cdp_certainty cdp_certainty_of(const float *logits, int n) {
    cdp_certainty c = {.nats = NAN, .argmax = -1, .top = NAN};
    bool is_whole;
    const float m = largest(logits, n, &is_whole);
    if (!is_whole)
        return c;
    c.argmax = 0;
    while (c.argmax < n - 1 && logits[c.argmax] != m)
        c.argmax++;
    if (!isfinite(m))
        return c;
    double z = 0, s = 0;
    for (int i = 0; i < n; i += BLOCK)
        add_block(logits + i, n - i < BLOCK ? n - i : BLOCK, m, &z, &s);
    if (z <= 0) /* not with a finite largest: its own e^0 is in it */
        return c;
    c.nats = log(z) - s / z;
    c.top = 1.0 / z;
    return c;
}

/* Let the root of a heap with its smallest on top sink to its place. */
static void sink(float *heap, int n, int at) {
    for (int child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[at] <= heap[child])
            return;
        const float above = heap[at];
        heap[at] = heap[child];
        heap[child] = above;
    }
}

/* Few logits are among the k largest so far, so most cost one comparison. */
double cdp_nats_of_top(const float *logits, int n, int k, float *room) {
    bool is_whole;
    largest(logits, n, &is_whole);
    if (!is_whole)
        return NAN;
    memcpy(room, logits, (size_t)k * sizeof *room);
    for (int i = k / 2 - 1; i >= 0; i--)
        sink(room, k, i);
    for (int i = k; i < n; i++)
        if (logits[i] > room[0]) {
            room[0] = logits[i];
            sink(room, k, 0);
        }
    return cdp_certainty_of(room, k).nats;
}

double cdp_nats_to_bits(double nats) {
    return nats / log(2.0);
}
double cdp_nats_normalised(double nats, int vocab) {
    return vocab > 1 ? nats / log(vocab) : NAN;
}
