/* Line editing and history by libedit. It reads wide characters in the user's locale; ours is always UTF-8.
 */
#include "launcher/lines.h"

#ifdef CDPIPE_LIBEDIT

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 1000 };

typedef struct editor {
    EditLine *edit;
    History *history;
    int fd;
    bool (*wait)(void *of);
    void *of;
    const char *prompt;
} editor;

static editor *editor_of(EditLine *edit) {
    void *data = NULL;
    el_get(edit, EL_CLIENTDATA, &data);
    return data;
}

static char *show_prompt(EditLine *edit) {
    return (char *)editor_of(edit)->prompt; /* libedit does not write to it */
}

/* One character, byte by byte; 0 at the end, -1 when the wait has to end. */
static int read_character(EditLine *edit, wchar_t *out) {
    editor *e = editor_of(edit);
    mbstate_t state;
    memset(&state, 0, sizeof state);
    for (;;) {
        char byte;
        if (!e->wait(e->of))
            return -1;
        const ssize_t n = read(e->fd, &byte, 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue; /* Ctrl-C takes back what was waited for */
        if (n <= 0)
            return (int)n;
        const size_t length = mbrtowc(out, &byte, 1, &state);
        if (length <= 1)
            return 1;
        if (length == (size_t)-1) { /* no UTF-8: a sign for it */
            *out = 0xFFFD;
            return 1;
        }
    }
}

static void close_editor(void *of) {
    editor *e = of;
    if (e == NULL)
        return;
    if (e->edit != NULL)
        el_end(e->edit);
    if (e->history != NULL)
        history_end(e->history);
    free(e);
}

static void *open_editor(int fd, bool (*wait)(void *of), void *of, const char *prompt) {
    HistEvent event;
    editor *e = calloc(1, sizeof *e);
    if (e == NULL || setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        free(e);
        return NULL;
    }
    *e = (editor){.fd = fd, .wait = wait, .of = of, .prompt = prompt};
    /* The descriptors by their numbers: stdout may be a stream that has none (streams.h). */
    const bool has_stdout = isatty(STDOUT_FILENO);
    e->edit = el_init_fd("cdpipe", stdin, has_stdout ? stdout : stderr, stderr, STDIN_FILENO,
                         has_stdout ? STDOUT_FILENO : STDERR_FILENO, STDERR_FILENO);
    e->history = history_init();
    if (e->edit == NULL || e->history == NULL) {
        close_editor(e);
        return NULL;
    }
    history(e->history, &event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->edit, EL_CLIENTDATA, e);
    el_set(e->edit, EL_PROMPT, show_prompt);
    el_set(e->edit, EL_EDITOR, "emacs");
    el_set(e->edit, EL_HIST, history, e->history);
    el_set(e->edit, EL_GETCFN, read_character);
    el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return e;
}

static const char *next_line(void *of, size_t *n_out) {
    editor *e = of;
    HistEvent event;
    int n = 0;
    const char *line = el_gets(e->edit, &n);
    if (line == NULL || n <= 0)
        return NULL;
    if (line[0] != '\n')
        history(e->history, &event, H_ENTER, line);
    *n_out = strlen(line);
    return line;
}

static const cdp_line_editor libedit = {open_editor, next_line, close_editor};
const cdp_line_editor *const cdp_line_editor_built = &libedit;

#else

const cdp_line_editor *const cdp_line_editor_built = NULL;

#endif
