/* An NVRTC for tests of figures: what it "compiles" the fake libcuda takes. */
#include "fake.h"
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
const char *nvrtcGetErrorString(int code) { return "NVRTC_ERROR"; }
int nvrtcGetNumSupportedArchs(int *count) { *count = 2; return 0; }
int nvrtcGetSupportedArchs(int *list) { list[0] = 80; list[1] = 90; return 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers, const char **texts, const char **names) {
    *program = (void *)5ul;
    return 0;
}
int nvrtcDestroyProgram(void **program) { return 0; }
int nvrtcCompileProgram(void *program, int count, const char **options) { return 0; }
int nvrtcGetProgramLogSize(void *program, size_t *size) { *size = 0; return 0; }
int nvrtcGetProgramLog(void *program, char *log) { return 0; }
int nvrtcGetCUBINSize(void *program, size_t *size) { *size = 4; return 0; }
int nvrtcGetCUBIN(void *program, char *code) { memcpy(code, "code", 4); return 0; }
