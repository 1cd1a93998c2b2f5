/* tests/support/device.h - a CPU device, open. The caller closes it, or the layer_case that it goes into. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/device.h"

static inline cdp_device *test_cpu(cdp_cpu_options options) {
    cdp_device *device = NULL;
    assert_int_equal(cdp_device_open_cpu(&device, &options), CDP_OK);
    return device;
}
