/* launcher/streams.h - pipes and terminals that keep us waiting, without blocking the ring. */
#pragma once

#include "kernels/status.h"

/* Until a read of `fd` does not block (or tells an end or an error). idle (may be NULL) is called at once
 * and then some fifty times a second, and may end the wait by its status. */
cdp_status cdp_stream_await(int fd, cdp_status (*idle)(void *of), void *of);
