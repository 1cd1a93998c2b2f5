#include "launcher/streams.h"

#include <poll.h>

enum { POLL_MS = 20 };

cdp_status cdp_stream_await(int fd, cdp_status (*idle)(void *of), void *of) {
    struct pollfd in = {.fd = fd, .events = POLLIN};
    do { /* also before what is there already: a writer that never pauses is no reason to be silent */
        if (idle != NULL)
            CDP_TRY(idle(of));
    } while (poll(&in, 1, POLL_MS) <= 0);
    return CDP_OK;
}
