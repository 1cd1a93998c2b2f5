#include "kernels/ref/ref.h"

#include <math.h>

void ref_rmsnorm(float *out, const float *x, const float *w, int n, float eps) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    const double scale = 1.0 / sqrt(sum / n + (double)eps);
    for (int i = 0; i < n; i++)
        out[i] = (float)(x[i] * scale * w[i]);
}

void ref_product(float *out, const float *x, const cdp_tensor *w, const cdp_tensor *bias) {
    for (int o = 0; o < w->rows; o++) {
        double sum = bias->data != NULL ? (double)((const float *)bias->data)[o] : 0.0;
        for (int k = 0; k < w->cols; k++)
            sum += (double)cdp_load(w->data, w->dtype, (size_t)o * (size_t)w->cols + (size_t)k) * x[k];
        out[o] = (float)sum;
    }
}

void ref_rotate(float *head, const float *cosine, const float *sine, int dim) {
    const int half = dim / 2;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half] = b * cosine[i] + a * sine[i];
    }
}

float ref_silu(float x) {
    return (float)(x / (1.0 + exp(-(double)x)));
}

void ref_round(float *x, int n, const cdp_shape *shape) {
    if (shape->hidden_dtype != CDP_BF16)
        return;
    for (int i = 0; i < n; i++)
        x[i] = cdp_round_bf16(x[i]);
}
