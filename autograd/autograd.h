#pragma once

#include <autograd/ctc.h>
#include <autograd/elementwise.h>
#include <autograd/embedding.h>
#include <autograd/error.h>
#include <autograd/indices.h>
#include <autograd/loss.h>
#include <autograd/matmul.h>
#include <autograd/parameter.h>
#include <autograd/random.h>
#include <autograd/record.h>
#include <autograd/reduce.h>
#include <autograd/safetensors.h>
#include <autograd/shape.h>
#include <autograd/shape_ops.h>
#include <autograd/tape.h>
#include <autograd/tensor.h>
