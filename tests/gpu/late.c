/* late LIBRARY NAME...: the library opens as the program opens it, and has every function of these names. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int n_missing = 0;
    void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
        printf("%s: %s\n", argc > 1 ? argv[1] : "no library", argc > 2 ? dlerror() : "and no names");
        return 1;
    }
    for (int i = 2; i < argc; i++)
        if (dlsym(library, argv[i]) == NULL) {
            printf("%s has no %s\n", argv[1], argv[i]);
            n_missing++;
        }
    printf("%s: %d of %d functions are there\n", argv[1], argc - 2 - n_missing, argc - 2);
    return n_missing > 0;
}
