/*
 * What is still live at exit: the register, grouped and sorted, largest first.
 */
#ifndef LEAKS_H
#define LEAKS_H

/* Prints the report to the log. Takes its memory from the kernel; with threads running it is exact for the blocks that
 * they leave alone. */
void leaks_report(void);

#endif
