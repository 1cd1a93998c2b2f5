/* tests/support/terminal.h - a program on a pseudo terminal, driven as a person at the keyboard does.
 *
 *     test_terminal *t = test_terminal_open((const char *const[]){CDPIPE_BIN, "chat", ..., NULL});
 *     assert_true(test_terminal_sees(t, "> ", 20));
 *     test_terminal_type(t, "hello\r");
 *     assert_int_equal(test_terminal_close(t, 20, NULL), 0); its exit code; -1: it had to be killed
 *
 * The program leads a session of its own whose terminal this is, as under a shell.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <termios.h>

typedef struct test_terminal {
    pid_t pid;
    int fd; /* the keyboard's and the screen's end */
    struct termios at_start;
    char *screen; /* all that was written, NUL-terminated */
    size_t n, n_seen;
} test_terminal;

test_terminal *test_terminal_open(const char *const *words);

/* True as soon as `text` is written behind what was seen before; false when wait_s is over first. */
bool test_terminal_sees(test_terminal *t, const char *text, double wait_s);

/* The same for a prompt of a line editor, which has then taken the terminal into its own mode (IEXTEN off).
 * What is typed while that changes is lost by Linux 6.18 now and then. */
bool test_terminal_prompts(test_terminal *t, const char *text, double wait_s);

void test_terminal_type(test_terminal *t, const char *keys);

/* Wait for its end, free all. *is_restored_out (may be NULL): the terminal is as it was at the start. */
int test_terminal_close(test_terminal *t, double wait_s, bool *is_restored_out);
