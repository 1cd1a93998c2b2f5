/* launcher/template/call.h - everything that can be called: filters, tests, methods and global functions are
 * rows of tables, with their parameters by name. */
#pragma once

#include "launcher/template/text.h"

typedef struct tpl_args {
    size_t n, n_named;
    const tpl_value *values; /* by position */
    const tpl_value *names;  /* texts ... */
    const tpl_value *named;  /* ... and their values */
} tpl_args;

enum { TPL_MAX_PARAMETERS = 5 };

typedef struct tpl_call {
    const char *name;
    tpl_value self;                  /* what the filter or test works on, or the receiver of a method */
    tpl_value a[TPL_MAX_PARAMETERS]; /* as the row's parameters; TPL_ABSENT where not given */
    const tpl_args *args;            /* all as they were given */
} tpl_call;

typedef tpl_value (*tpl_run)(tpl_machine *m, tpl_call *call);

typedef struct tpl_row {
    const char *name;
    tpl_run run;            /* NULL: known to the reference, refused by us */
    const char *parameters; /* names with blanks between; "*": anything goes, `a` is not filled */
    int n_required;
} tpl_row;

/* A global function, or a method with its receiver. */
typedef struct tpl_function {
    const tpl_row *row;
    tpl_value self;
} tpl_function;

/* Tables end with a row without name. */
const tpl_row *tpl_find_row(const tpl_row *table, const char *name, size_t n);
extern const tpl_row tpl_filter_rows[], tpl_list_filter_rows[], tpl_test_rows[], tpl_function_rows[];
extern const tpl_row tpl_text_method_rows[], tpl_dict_method_rows[], tpl_list_method_rows[];
const tpl_row *tpl_find_filter(const char *name, size_t n);

/* End with the name of a filter (else a test) that has no row, or none that runs. */
_Noreturn void tpl_fail_unknown(tpl_machine *m, bool is_filter, const char *name);

/* Bind the arguments to the row's parameters and run it. */
tpl_value tpl_call_row(tpl_machine *m, const tpl_row *row, tpl_value self, const tpl_args *args);

/* Call any value: function, method, macro, loop. */
tpl_value tpl_call_value(tpl_machine *m, tpl_value callee, const tpl_args *args);

/* a.name and a[index], as the reference finds them. */
tpl_value tpl_attribute(tpl_machine *m, tpl_value v, const char *name, size_t n);
tpl_value tpl_item(tpl_machine *m, tpl_value v, tpl_value index);

/* Arguments as C values, for rows. */
static inline bool tpl_given(tpl_value v) {
    return v.kind != TPL_ABSENT;
}
int64_t tpl_int_argument(tpl_machine *m, tpl_value v, int64_t otherwise);
tpl_value tpl_text_argument(tpl_machine *m, tpl_value v, const char *otherwise);
