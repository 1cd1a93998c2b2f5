/* launcher/batch/evidence.h - a rank that dies by its own fault says so in the journal of its job
 * (journal.h).
 *
 * Faults are fatal signals (SEGV, BUS, FPE, ILL, ABRT) and a hang that the watchdog ends. A kill from outside
 * leaves no line, and that is the difference. Nor does a stall that is the machine's: a rank that stood in
 * line for a core (comm/queueing.h), a disk that did not answer. Such a run has died without evidence, which
 * counts little. Every rank arms itself; one on a host that does not see the output's folder leaves no
 * evidence.
 */
#pragma once

/* From now on a fatal signal appends "crash RANK signal N" to OUT.attempts, if that is there, and then goes
 * its way (a handler that was there before is called). Once a process. */
void cdp_evidence_arm(const char *output, int rank);

/* The same line for another fault, e.g. "hang". Safe in signal handlers and on any thread; nothing where not
 * armed. */
void cdp_evidence_leave(const char *what, int number);
