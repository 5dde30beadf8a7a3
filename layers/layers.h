#pragma once

#include <layers/attention.h>
#include <layers/decode.h>
#include <layers/dropout.h>
#include <layers/embedding.h>
#include <layers/gru.h>
#include <layers/initialize.h>
#include <layers/linear.h>
#include <layers/lstm.h>
#include <layers/module.h>
#include <layers/normalization.h>
#include <layers/recurrent.h>
#include <layers/rnn.h>
#include <layers/sequential.h>
#include <layers/truncated.h>
