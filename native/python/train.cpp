// Python door to the training kernels.
#include "module.h"

void bind_train(nb::module_&) {}
