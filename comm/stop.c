/* Signals that ask for a stop. The handlers only set flags: every wait is a test loop that comes back to its
 * caller, so nothing has to be woken. */
#include "comm/world.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Signals reach a process and not an object, so this is the folder's one global. */
static volatile sig_atomic_t is_stop_wanted;

static void ask_for_stop(int number) {
    static volatile sig_atomic_t n_interrupts;
    is_stop_wanted = 1;
    /* Whoever presses Ctrl-C twice does not want to wait for the tokens in flight. Through mpirun the second
     * one comes as SIGUSR2. */
    if (number == SIGUSR2 || (number == SIGINT && ++n_interrupts > 1))
        _exit(CDP_STOPPED);
}

cdp_status cdp_stop_install(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_handler = ask_for_stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], &action, NULL) != 0)
            return cdp_fail(CDP_SYSTEM, "signal %d cannot be caught: %s", numbers[i], strerror(errno));
    action.sa_handler = SIG_IGN; /* a reader that goes away is seen as EPIPE */
    if (sigaction(SIGPIPE, &action, NULL) != 0)
        return cdp_fail(CDP_SYSTEM, "SIGPIPE cannot be ignored: %s", strerror(errno));
    return CDP_OK;
}

bool cdp_stop_wanted(void) {
    return is_stop_wanted != 0;
}
