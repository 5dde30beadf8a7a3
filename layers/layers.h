#pragma once

#include <layers/dropout.h>
#include <layers/embedding.h>
#include <layers/gru.h>
#include <layers/linear.h>
#include <layers/lstm.h>
#include <layers/module.h>
#include <layers/recurrent.h>
#include <layers/rnn.h>
