/* The CUDA driver of a machine that has no GPU: what PyTorch asks it for, and needs an answer to. */
#include <stddef.h>

static int context;

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    if (flags != NULL) *flags = 0;
    *active = 1;
    return 0;
}
int cuCtxGetCurrent(void **found) {
    *found = &context;
    return 0;
}
int cuGetErrorString(int error, const char **found) {
    *found = "error of the emulated GPU";
    return 0;
}
