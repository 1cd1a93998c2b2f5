#include "launcher/batch/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/streams.h"
#include "planner/file.h"

enum { BLOCK = 1 << 20, FIRST_READ = 8192 };

static cdp_status failed(const cdp_input *in, cdp_status code) {
    char shown[CDP_SHOWN_PATH];
    return cdp_fail(code, "%s: %s", cdp_escape(shown, sizeof shown, in->path, strlen(in->path)),
                    strerror(errno != 0 ? errno : EIO));
}

/* What can be read only once goes to a file without a name. */
static cdp_status spool(cdp_input *in, int from, cdp_status (*idle)(void *of), void *of) {
    char name[4096];
    const char *folder = getenv("TMPDIR");
    snprintf(name, sizeof name, "%s/cdpipe-input-XXXXXX",
             folder != NULL && *folder != '\0' ? folder : "/tmp");
    in->fd = mkostemp(name, O_CLOEXEC);
    if (in->fd < 0)
        return cdp_fail(CDP_IO, "a temporary file for the input, %.200s: %s", name, strerror(errno));
    unlink(name);
    char *block = malloc(BLOCK);
    cdp_status st = block != NULL ? CDP_OK : failed(in, CDP_NO_INPUT);
    while (st == CDP_OK && (st = cdp_stream_await(from, idle, of)) == CDP_OK) {
        const ssize_t n = read(from, block, BLOCK);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            st = failed(in, CDP_NO_INPUT);
        for (ssize_t at = 0, w; st == CDP_OK && at < n; at += w)
            if ((w = write(in->fd, block + at, (size_t)(n - at))) < 0)
                st = cdp_fail(CDP_IO, "copying the input to %.200s: %s", name, strerror(errno));
    }
    free(block);
    return st;
}

static cdp_status open_file(cdp_input *in, cdp_status (*idle)(void *of), void *of) {
    struct stat about;
    if (strcmp(in->path, "-") == 0)
        return spool(in, STDIN_FILENO, idle, of);
    const int fd = open(in->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe's writer may come later */
    if (fd < 0 || fstat(fd, &about) != 0) {
        const cdp_status st = failed(in, CDP_NO_INPUT);
        if (fd >= 0)
            close(fd);
        return st;
    }
    if (S_ISREG(about.st_mode)) {
        in->fd = fd;
        return CDP_OK;
    }
    errno = EISDIR;
    const cdp_status st = S_ISDIR(about.st_mode) ? failed(in, CDP_NO_INPUT) : spool(in, fd, idle, of);
    close(fd);
    return st;
}

static cdp_status make_room(cdp_input *in, size_t n) {
    if (n + 1 <= in->room)
        return CDP_OK;
    const size_t room = n + n / 2 + FIRST_READ;
    char *grown = realloc(in->text, room);
    if (grown == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a line of %zu bytes", n);
    in->text = grown;
    in->room = room;
    return CDP_OK;
}

static bool is_blank(const char *text, size_t n) {
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '\r'))
        n--;
    return n == 0;
}

/* The first pass at work: the line being gathered. */
typedef struct pass {
    cdp_input *in;
    uint64_t offset; /* of the line, in the file */
    size_t n;        /* bytes gathered of it; beyond the limit only counted */
    uint32_t number;
} pass;

static cdp_status gather(pass *p, const char *bytes, size_t n) {
    const size_t kept = p->n + n <= CDP_MAX_LINE_BYTES ? n : 0;
    if (kept > 0) {
        CDP_TRY(make_room(p->in, p->n + n));
        memcpy(p->in->text + p->n, bytes, n);
    }
    p->n += n;
    return CDP_OK;
}

/* The line is whole: into the ledger, by its id or else by its number. */
static cdp_status end_line(pass *p, size_t n_newline) {
    cdp_line line = {0};
    cdp_status st = CDP_OK;
    p->number++;
    if (p->n > CDP_MAX_LINE_BYTES || !is_blank(p->in->text, p->n)) {
        if (p->n <= CDP_MAX_LINE_BYTES)
            st = cdp_line_identify(&line, p->in->text, p->n, p->number);
        if (st == CDP_OK || st == CDP_BAD_DATA) {
            const bool has_id = line.id != NULL;
            p->in->names_decoding |= line.names_decoding;
            cdp_error_clear();
            st = cdp_ledger_add(&p->in->ledger,
                                has_id ? cdp_id_hash(line.id, strlen(line.id)) : cdp_line_hash(p->number),
                                p->offset, p->number, has_id ? 0 : CDP_LEDGER_NO_ID);
        }
        cdp_line_close(&line);
    }
    p->offset += p->n + n_newline;
    p->n = 0;
    return st;
}

static cdp_status take_block(pass *p, const char *bytes, size_t n) {
    while (n > 0) {
        const char *newline = memchr(bytes, '\n', n);
        const size_t length = newline != NULL ? (size_t)(newline - bytes) : n;
        CDP_TRY(gather(p, bytes, length));
        if (newline == NULL)
            return CDP_OK;
        CDP_TRY(end_line(p, 1));
        bytes += length + 1;
        n -= length + 1;
    }
    return CDP_OK;
}

/* Fill a block; short only at the end of the file. */
static cdp_status read_block(cdp_input *in, char *block, size_t *n_out) {
    *n_out = 0;
    while (*n_out < BLOCK) {
        errno = 0;
        const ssize_t n = pread(in->fd, block + *n_out, BLOCK - *n_out, (off_t)(in->size + *n_out));
        if (n < 0 && errno != EINTR)
            return failed(in, errno == EISDIR ? CDP_NO_INPUT : CDP_IO);
        if (n == 0)
            break;
        *n_out += n > 0 ? (size_t)n : 0;
    }
    return CDP_OK;
}

static cdp_status read_through(cdp_input *in, char *block, cdp_status (*on_block)(void *of), void *of) {
    static const char mark[] = {'\xEF', '\xBB', '\xBF'}; /* a byte order mark */
    pass p = {.in = in};
    size_t n = BLOCK;
    while (n == BLOCK) {
        CDP_TRY(read_block(in, block, &n));
        in->hash = cdp_hash_add(in->hash, block, n);
        const size_t skipped = in->size == 0 && n >= 3 && memcmp(block, mark, 3) == 0 ? 3 : 0;
        p.offset += skipped;
        in->size += n;
        CDP_TRY(take_block(&p, block + skipped, n - skipped));
        if (on_block != NULL)
            CDP_TRY(on_block(of));
    }
    return p.n > 0 ? end_line(&p, 0) : CDP_OK;
}

static cdp_status refuse_twins(cdp_input *in, uint32_t first, uint32_t second) {
    char shown[CDP_SHOWN_PATH], id[128];
    cdp_line line;
    const cdp_status st = cdp_input_line(in, second, &line);
    if (st == CDP_OK)
        cdp_fail(CDP_BAD_DATA, "%s: lines %u and %u have the same id \"%s\"",
                 cdp_escape(shown, sizeof shown, in->path, strlen(in->path)), in->ledger.lines[first],
                 in->ledger.lines[second], cdp_escape(id, sizeof id, line.id, strlen(line.id)));
    cdp_line_close(&line);
    return st != CDP_OK ? st : CDP_BAD_DATA;
}

cdp_status cdp_input_open(cdp_input *out, const char *path, cdp_status (*on_block)(void *of), void *of) {
    uint32_t first, second;
    *out = (cdp_input){.path = strdup(path), .fd = -1, .hash = CDP_HASH_START};
    char *block = malloc(BLOCK);
    cdp_status st =
        out->path != NULL && block != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the input");
    if (st == CDP_OK)
        st = open_file(out, on_block, of);
    if (st == CDP_OK)
        st = read_through(out, block, on_block, of);
    free(block);
    if (st == CDP_OK && !cdp_ledger_sort(&out->ledger, &first, &second))
        st = refuse_twins(out, first, second);
    return st;
}

/* Bytes of the line at `offset`, up to its newline or the end of what was read at the start. */
static cdp_status read_line(cdp_input *in, uint64_t offset, size_t *n_out) {
    size_t n = 0;
    for (size_t want = FIRST_READ;; want *= 2) {
        const uint64_t left = in->size - offset - n;
        want = want < left ? want : (size_t)left;
        CDP_TRY(make_room(in, n + want));
        errno = 0;
        const ssize_t got = want > 0 ? pread(in->fd, in->text + n, want, (off_t)(offset + n)) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return failed(in, CDP_IO);
        const char *newline = memchr(in->text + n, '\n', (size_t)got);
        n += (size_t)got;
        *n_out = newline != NULL ? (size_t)(newline - in->text) : n;
        if (newline != NULL || got == 0 || n > CDP_MAX_LINE_BYTES)
            return CDP_OK;
    }
}

static cdp_status changed(const cdp_input *in, uint32_t index) {
    char shown[CDP_SHOWN_PATH];
    return cdp_fail(CDP_IO, "%s: line %u has changed while the job runs",
                    cdp_escape(shown, sizeof shown, in->path, strlen(in->path)), in->ledger.lines[index]);
}

cdp_status cdp_input_line(cdp_input *in, uint32_t index, cdp_line *out) {
    const uint32_t number = in->ledger.lines[index];
    const bool had_id = !(cdp_ledger_marks(&in->ledger, index) & CDP_LEDGER_NO_ID);
    size_t n = 0;
    *out = (cdp_line){.number = number};
    CDP_TRY(read_line(in, cdp_ledger_offset(&in->ledger, index), &n));
    if (n > CDP_MAX_LINE_BYTES)
        return cdp_fail(CDP_BAD_DATA, "line %u is longer than %d bytes", number, CDP_MAX_LINE_BYTES);
    const cdp_status st = cdp_line_identify(out, in->text, n, number);
    if (st != CDP_OK && st != CDP_BAD_DATA)
        return st;
    const bool has_id = out->id != NULL;
    if (has_id != had_id ||
        (has_id && cdp_hash_compare(cdp_id_hash(out->id, strlen(out->id)), in->ledger.ids[index]) != 0)) {
        cdp_error_clear();
        return changed(in, index);
    }
    return st;
}

void cdp_input_close(cdp_input *in) {
    if (in->fd >= 0)
        close(in->fd);
    free(in->path);
    free(in->text);
    cdp_ledger_close(&in->ledger);
    *in = (cdp_input){.fd = -1};
}
