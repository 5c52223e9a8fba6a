/* What the case process/start-up and `start` start. */
int main(void) {
    return 0;
}
