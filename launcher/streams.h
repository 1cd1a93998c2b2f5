/* launcher/streams.h - pipes and terminals that keep us waiting, without blocking the ring.
 *
 * A person types slowly, and stops to read: no rank hangs because of that. So nobody blocks in a read or a
 * write of such a stream; between two looks at it `idle` is called, or the world polled.
 */
#pragma once

#include "comm/world.h"

/* Until a read of `fd` does not block (or tells an end or an error). idle (may be NULL) is called at once
 * and then some fifty times a second, and may end the wait by its status. */
cdp_status cdp_stream_await(int fd, cdp_status (*idle)(void *of), void *of);

/* Until a write to `fd` does not block (or tells an error); the world that stdout is kept for gets its beats
 * meanwhile. CDP_STOPPED, without a message, where a signal asks for a stop first; what the world says. Main
 * thread. */
cdp_status cdp_stream_await_reader(int fd);

/* From here on whoever writes to stdout, or a note, keeps the world's beats going while nobody reads; a
 * signal that asks for a stop ends such a wait: the write fails with EINTR, the note is left out. NULL:
 * writes block again, as they must once the world is left. Main thread. */
void cdp_stream_keep_stdout(cdp_world *world);

/* A write of `what` to stdout has failed. CDP_STOPPED where a stop came before the reader, what the world
 * said where that ended the wait, else CDP_IO with errno in words. Main thread. */
cdp_status cdp_stream_failed(const char *what);
