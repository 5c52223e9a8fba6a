/* What the case process/start-up starts. */
int main(void) {
    return 0;
}
