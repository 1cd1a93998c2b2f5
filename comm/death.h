/* comm/death.h - what the kernel tells of the end of another process of this host.
 *
 * Its parent, the launcher, is told how it ended, and says so or not (a quiet mpirun does not). A peer has to
 * look: at the dead process while nobody has reaped it, at its pidfd from Linux 6.15 on after that.
 */
#pragma once

#include <stdint.h>

enum { CDP_DEATH_TEXT = 48 };

/* "signal 9: Killed" or "exit code 3" of the process that has ended; "" when the kernel does not tell. */
void cdp_death_read(char out[CDP_DEATH_TEXT], int pid, int pidfd);

/* Processes that the kernel has killed for lack of memory, of the host or of a control group, since it
 * booted; 0 when it does not tell. */
uint64_t cdp_death_oom_kills(void);
