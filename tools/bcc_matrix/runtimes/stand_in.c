/* Fires the static markers of runtimes that Debian builds without them, with the arguments that those runtimes' own sources give them
   (perl: perldtrace.d, Tcl: tclDTrace.d, Node.js: node_provider.d), over and over. It is told by its name whose to fire. */
#include <stdio.h>
#include <string.h>
#include <sys/sdt.h>
#include <unistd.h>

static void perl(void)
{
    DTRACE_PROBE4(perl, sub__entry, "inner", "work.pl", 5, "main");
    DTRACE_PROBE4(perl, sub__return, "inner", "work.pl", 5, "main");
}

static void tcl(void)
{
    static int object;

    DTRACE_PROBE10(tcl, proc__args, "inner", "1", 0, 0, 0, 0, 0, 0, 0, 0);
    DTRACE_PROBE3(tcl, proc__entry, "inner", 1, &object);
    DTRACE_PROBE1(tcl, obj__create, &object);
    DTRACE_PROBE2(tcl, proc__return, "inner", 0);
}

static void node(void)
{
    DTRACE_PROBE2(node, gc__start, 2, 0);
    usleep(1000);
    DTRACE_PROBE2(node, gc__done, 2, 0);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    void (*fire)(void) = strcmp(name, "perl") == 0 ? perl : strcmp(name, "tclsh") == 0 ? tcl : node;

    (void)argc;
    puts("ready");
    fflush(stdout);
    for (;;) {
        for (int i = 0; i < 20; i++)
            fire();
        usleep(100000);
    }
}
