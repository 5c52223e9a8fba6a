/* Prints "fine", for libraries that do their work before main. */
#include <stdio.h>

int main(void) {
    puts("fine");
    return 0;
}
